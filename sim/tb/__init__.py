"""cocotb testbenches: drivers, monitors and scoreboard, written once for all designs."""
