"""Torch schedulers over the rules: real `torch.optim.lr_scheduler.LRScheduler`s."""
