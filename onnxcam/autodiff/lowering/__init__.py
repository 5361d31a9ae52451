"""The building blocks of gradient rules, written in the operators that runtimes run fastest."""
