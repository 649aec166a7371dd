"""The machine: devices, memory, speed, the lock of a folder, signals."""
