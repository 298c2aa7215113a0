"""Virtual time over availability and price traces, driving the same decisions as the operator."""
