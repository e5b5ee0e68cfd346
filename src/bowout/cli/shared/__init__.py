"""Parts that the commands share: options, errors, hints and reports."""
