"""What an operator asks for: a folder for each verb, none of which knows another, and what they share."""
