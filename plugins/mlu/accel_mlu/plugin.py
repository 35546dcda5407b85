"""The plugin that accel loads when one of its targets is used."""
