"""`runforrest doctor`: does this filesystem keep what the protocol needs, and what is wrong with this list?"""
