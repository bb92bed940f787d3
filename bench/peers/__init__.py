"""The servers that this one is compared with: how they are built or installed, kept and started."""
