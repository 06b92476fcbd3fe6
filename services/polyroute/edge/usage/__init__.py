"""What accounts and projects have used, for their own people: auth says whose it may be, metrics what it was."""
