"""What runs in worker pods and in local mode: plan, score, finish one evaluation run."""
