"""The commands as the command line takes them, by what they are about. Bodies import what they need."""
