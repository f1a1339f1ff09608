"""Public networks by name, on data of the user's."""
