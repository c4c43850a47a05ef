//! What is left after kills, interrupts, damage, full disks and crowds.
