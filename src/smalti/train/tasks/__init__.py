"""What a phase learns on: stored embeddings of images, stored features of tiles, or tiles.

Each task has the same methods, which the loop calls: ``list_groups`` (parameters with their relative rates),
``start_epoch`` (modes, open layers, strength of augmentation), ``draw_batches`` (for each batch of one epoch a function
that gives its logits, and its targets) and ``score`` (logits of the inner or of the watched images).
"""

from .bags import BagTask
from .finetune import FinetuneTask
from .transfer import Forward, TransferTask

Task = TransferTask | BagTask | FinetuneTask

__all__ = ["BagTask", "FinetuneTask", "Forward", "Task", "TransferTask"]
