"""This host's NVIDIA cards, as their driver tells of them; `python -m engines.cards` shows them beside nvidia-smi."""
