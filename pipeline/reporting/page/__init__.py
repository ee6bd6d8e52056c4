"""What all pages share: template, style, charts, PDF."""
