"""What a paper or a colleague asks for beside the score: thresholds, licences, checklists, the model card."""
