"""Asking a provider for many things, with nothing lost and nothing paid twice.

work.py       what is asked for, and what makes an answer good
engine.py     the loop
sending.py    who is asked next, and when
settling.py   what becomes of an answer
ledgers.py    the three journals, and where they left off
identity.py   what a run may not change between two sittings
queue.py      whose turn it is
calls.py      one request, and how it is written down
patience.py   what follows from a failure, by gate.py backoff.py concurrency.py breaker.py
budget.py     what may be spent
stopping.py   Ctrl-C, once and twice
figures.py    what is shown meanwhile
looking.py    what a run would cost, and how far it is, without asking
"""
