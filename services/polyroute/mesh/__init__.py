"""What every process of the mesh runs on: servers, channels, errors, deadlines, lifecycle, configuration, logs."""
