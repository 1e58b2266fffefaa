"""Optional mirroring of curves to other tools, from the event files."""
