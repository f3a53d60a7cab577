"""What is promised, and whether it is kept: facts, one pure evaluator, and the status that all who tell draw from."""
