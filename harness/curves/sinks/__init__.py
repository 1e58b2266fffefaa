"""Where curves can be mirrored to, one file each."""
