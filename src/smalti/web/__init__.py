"""What a page on this computer needs, whatever it shows: its address, who is let in, and how it is ended."""

from .address import HOST, Address, take_address
from .guard import Guard, Rules
from .hosting import answer_error, host_page

__all__ = ["HOST", "Address", "Guard", "Rules", "answer_error", "host_page", "take_address"]
