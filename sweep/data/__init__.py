"""Texts and labels: from files or the Hub to balanced, nested subsets."""
