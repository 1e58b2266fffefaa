"""Check which precisions and memory layouts compute correct convolutions on a device."""
