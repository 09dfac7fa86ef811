"""What `embedonce doctor` looks at. It reads, asks what costs nothing, and changes nothing."""
