"""What all services share: settings, logs, traces, the HTTP API frame, storage and calls to peers."""
