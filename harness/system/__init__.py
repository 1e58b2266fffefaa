"""Where and with what a stage runs: the code's revision and the devices."""
