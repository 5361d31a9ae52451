"""The rules of DeepLIFT, by families of operators: x' and y' are the values of x and y on the reference."""
