"""How right a runner is: task figures, and float against artifact by output and by layer."""
