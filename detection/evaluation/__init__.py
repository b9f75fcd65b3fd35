"""AVA frame-mAP by named rules, what was lost and why, and tubes; no model and no torch."""
