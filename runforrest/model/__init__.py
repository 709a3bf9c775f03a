"""What a task, an attempt and a runner are: pure values and rules, without files or clocks."""
