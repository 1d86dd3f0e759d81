"""What `biomask doctor` looks at: what is installed, what the machine can do, and whether biomask works here.

No module of it imports torch, numpy or anything else that may be broken before it is tried.
"""

from biomask.doctor.examine import examine
from biomask.doctor.facts import Accelerators, Check, Device, Diagnosis, Disk, Extra, Package, Problem, Processor, Software, Speed

__all__ = ["Accelerators", "Check", "Device", "Diagnosis", "Disk", "Extra", "Package", "Problem", "Processor", "Software", "Speed",
           "examine"]
