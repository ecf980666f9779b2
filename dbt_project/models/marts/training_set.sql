{{ training_set() }}
