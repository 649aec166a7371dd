"""The machine: devices, memory, transfers, speed, the lock of a folder, signals."""
