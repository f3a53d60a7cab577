"""The local disk: folders by descriptor, state files, locks, which backups there are and which expire."""
