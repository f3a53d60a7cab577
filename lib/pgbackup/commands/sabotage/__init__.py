"""test-alarms.sh: a throwaway set-up is broken on purpose, and each fault has to come out of the channels."""
