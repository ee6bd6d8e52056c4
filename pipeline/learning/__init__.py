"""Split, transforms, loading, training and prediction."""
