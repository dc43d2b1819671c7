"""What the snippets of the pages stand on: the part of a script that a snippet leaves out."""

from __future__ import annotations

TORCH = """
import torch
import torch.nn.functional as F
import ratewise

torch.manual_seed(0)
inputs = torch.randn(64, 8)
rows = list(zip(inputs, inputs[:, :1] - inputs[:, 1:2]))
loader = torch.utils.data.DataLoader(rows, batch_size=8)
steps = len(loader)
model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
accumulate = 2

def train(scheduler, steps):
    for _ in range(steps):
        loss = F.mse_loss(model(inputs), inputs[:, :1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
"""

#: name -> code that is run before the snippet
SETUPS = {
    "none": "",
    "torch": TORCH,
    "accumulation": TORCH,
    "groups": TORCH,
    "lora": TORCH + "model[0].requires_grad_(False)\n",
    "resume": TORCH,
    "log": TORCH,
    "gpu": TORCH
    + """
model.cuda()
loss = model(inputs.cuda()).square().mean()
""",
    "plan": TORCH
    + """
from ratewise.rules import plan

plan.write("plan.json", plan.Plan(((1, 0.0), (3, 0.2), (5, 0.0))))
""",
    "timm": TORCH
    + """
num_epochs = 2

class TheirScheduler:
    def step_update(self, num_updates): ...
    def step(self, epoch, metric): ...

def create_scheduler_v2(optimizer, num_epochs):
    return TheirScheduler(), num_epochs
""",
    "gpt": TORCH
    + """
learning_rate, decay_lr, max_iters, gradient_accumulation_steps, grad_clip = 1e-3, True, 4, 2, 1.0

def get_lr(step):
    return learning_rate * (1 - step / max_iters)

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(8, 8)

    def forward(self, x, targets):
        logits = self.head(x)
        return logits, F.cross_entropy(logits, targets)

model = Model()

def get_batch(split):
    return torch.randn(4, 8), torch.randint(8, (4,))
""",
    "trainer": TORCH
    + """
from transformers import PretrainedConfig, PreTrainedModel, Trainer, TrainingArguments

class Model(PreTrainedModel):
    config_class = PretrainedConfig

    def __init__(self, config):
        super().__init__(config)
        self.layer = torch.nn.Linear(8, 1)
        self.post_init()

    def forward(self, x, labels=None):
        return {"loss": F.mse_loss(self.layer(x), labels), "logits": self.layer(x)}

model = Model(PretrainedConfig())
rows = [{"x": x, "labels": y} for x, y in rows]
arguments = TrainingArguments(
    "out", max_steps=4, save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True
)
""",
    "accelerate": TORCH
    + """
from accelerate import Accelerator

accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
""",
    "lightning": TORCH
    + """
import lightning.pytorch as pl

trainer = pl.Trainer(
    max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False,
)
""",
    "keras": """
import keras
import numpy as np

x = np.ones((16, 4), dtype="float32")
y = np.ones(16, dtype="float32")
model = keras.Sequential([keras.layers.Dense(1)])
""",
    "optax": """
import jax
import jax.numpy as jnp
import optax

params = {"w": jnp.ones(3)}

def loss_of(params):
    return jnp.sum(params["w"] ** 2)
""",
}
