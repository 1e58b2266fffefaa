"""Build objects from specifications: methods, models, data sets, distillers."""
