#!/bin/sh
# The AWS command line, from its wheels.
PYTHONPATH=/opt/aws exec python3 -m awscli "$@"
