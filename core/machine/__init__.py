"""What runs us: cores, memory, threads, versions."""
