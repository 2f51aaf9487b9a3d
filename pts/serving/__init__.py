"""What `pts` adds to a vLLM server that is started with its flags: steering, guides, residual streams."""
