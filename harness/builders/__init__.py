"""From a specification to an object: methods, models, data sets, distillers."""
