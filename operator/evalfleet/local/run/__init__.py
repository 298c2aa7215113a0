"""An EvaluationJob on one machine: plan, N worker processes, finish; no Kubernetes."""
