def write_training_report(*a, **k): pass
def write_prediction_report(*a, **k): pass
def write_evaluation_report(*a, **k): pass
def write_demo_report(*a, **k): pass
