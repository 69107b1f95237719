"""Workers as Pods of RunPod."""
