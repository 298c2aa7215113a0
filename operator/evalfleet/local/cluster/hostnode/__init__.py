"""A small kubelet that runs pods as processes of this machine.

Provided: environment, emptyDir, ConfigMap, Secret, projected, hostPath and claimed volumes by path rewriting, SIGTERM
and grace, exit codes, restart policy, termination messages, logs, one loopback address per pod, memory limits.
Deliberately absent: image pulls, mount namespaces, cgroups, securityContext, Services, DNS, probes.
"""
