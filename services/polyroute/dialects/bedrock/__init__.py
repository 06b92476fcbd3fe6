"""What `bedrock.converse` is made of: binary framing, requests, answers, errors."""
