"""Learning a policy: the simulator as an environment, PPO, and the weight file."""
