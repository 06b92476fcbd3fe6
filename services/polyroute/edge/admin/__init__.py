"""Administration over HTTP: which paths the contract gives to RPCs, and how requests and answers are JSON."""
