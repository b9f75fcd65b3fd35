"""Metrics: AVA's frame-mAP by protocol, error diagnosis, video-mAP; no model and no torch."""
