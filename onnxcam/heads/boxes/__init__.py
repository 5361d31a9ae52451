"""Where a detector has its boxes, and how they are decoded into pixels."""
