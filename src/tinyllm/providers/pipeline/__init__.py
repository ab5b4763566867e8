"""Asking a provider for many things, with nothing lost and nothing paid twice.

work.py         what is asked for, and what makes an answer good
engine.py       the loop: who is asked next, what becomes of an answer
ledgers.py      the three journals, and where they left off
gate.py backoff.py concurrency.py breaker.py budget.py     how fast, how patiently, how much
figures.py      what is shown meanwhile
"""
